"""Opens the page: `ct-rate-pairs app --model_name_or_path MODEL`."""

from collections.abc import Sequence
from importlib.util import find_spec

from ct_rate_pairs.command_line import CommandParser, run
from ct_rate_pairs.hub.model_options import add_model_options, find_model, load_chosen_model
from ct_rate_pairs.hub.notice import NOTICE
from ct_rate_pairs.number_ranges import Range


HELP = """\
Open a page on which a released model reports chest CTs and answers questions about them, in a browser on this machine.

A scan is a .nii.gz, .nii or .mha file in HU, or a .zip of DICOM files; the page has phantoms to try. With --dicomweb,
it can be a study in a PACS, too: the login is read from the environment as by `ct-rate-pairs report`, and whoever
opens the page uses this login. An upload is deleted as soon as it is read. Nothing is sent anywhere: no share link, no
telemetry, no font of another server.

By default, only this machine can open the page. --host 0.0.0.0 opens it to the network, without any password: do this
only where everybody may send scans to this machine."""
EXAMPLES = """\
examples:
  %(prog)s --model_name_or_path runs/phantom
  %(prog)s --model_name_or_path USER/model --model_revision v1 --port 8000
  %(prog)s --model_name_or_path USER/model --dicomweb https://pacs.example.org/dicom-web

"""


def make_parser() -> CommandParser:
    """The parser of the command."""
    parser = CommandParser("ct-rate-pairs app", description=HELP, epilog=EXAMPLES + NOTICE)
    add = parser.add_argument
    add_model_options(parser)
    add("--host", default="127.0.0.1", help="address to serve at (default: %(default)s, this machine alone)")
    add("--port", type=int, range=Range(1, 65535), help="port (default: the first free one from 7860)")
    add("--dicomweb", metavar="URL", help="DICOMweb server from which the page may take studies (extra pacs)")
    add("--allow_http", action="store_true", help="let scans come unencrypted from a server on another machine")
    return parser


def main(argv: Sequence[str]) -> None:
    """The command `ct-rate-pairs app`."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.allow_http and not args.dicomweb:
        parser.error("--allow_http has no effect without --dicomweb: leave it out.")
    if find_spec("gradio") is None:
        raise ImportError("The page needs gradio: pip install 'ct-rate-pairs[app]'.")
    if args.dicomweb and find_spec("dicomweb_client") is None:
        raise ImportError("--dicomweb needs dicomweb-client: pip install 'ct-rate-pairs[pacs]'.")

    find_model(args)

    from ct_rate_pairs.hub.pacs import DicomWebServer

    from .page import serve

    server = DicomWebServer(args.dicomweb, args.allow_http) if args.dicomweb else None
    serve(load_chosen_model(args), args.host, args.port, server)


if __name__ == "__main__":
    run(main)
