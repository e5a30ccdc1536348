"""Opens the page: `ct-rate-pairs app --model_name_or_path MODEL`."""

from collections.abc import Sequence
from importlib.util import find_spec

from ct_rate_pairs.command_line import CommandParser, run
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
    add("--model_name_or_path", required=True, metavar="MODEL", help="name on the Hub, or folder of a trained model")
    add("--model_revision", metavar="REVISION", help="branch, tag or commit on the Hub")
    add("--host", default="127.0.0.1", help="address to serve at (default: %(default)s, this machine alone)")
    add("--port", type=int, range=Range(1, 65535), help="port (default: the first free one from 7860)")
    add("--dicomweb", metavar="URL", help="DICOMweb server from which the page may take studies (extra pacs)")
    add("--allow_http", action="store_true", help="let scans come unencrypted from a server on another machine")
    add("--device", help="such as cuda:1 or cpu (default: an accelerator if there is one)")
    add("--dtype", default="auto", help="data type of the weights, such as bfloat16 (default: as saved)")
    add("--quantization", choices=("4bit", "8bit"), help="quantize the weights, for a small memory (extra qlora)")
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

    from ct_rate_pairs.trainer.hub_files import commit_of

    # A missing model is told now, before torch is imported.
    revision = commit_of(args.model_name_or_path, args.model_revision) or args.model_revision

    from ct_rate_pairs.hub.pacs import DicomWebServer
    from ct_rate_pairs.hub.reporting.load import load_reporter

    from .page import serve

    server = DicomWebServer(args.dicomweb, args.allow_http) if args.dicomweb else None

    reporter = load_reporter(
        args.model_name_or_path, revision, args.device, args.dtype, quantization=args.quantization
    )
    serve(reporter, args.host, args.port, server)


if __name__ == "__main__":
    run(main)
