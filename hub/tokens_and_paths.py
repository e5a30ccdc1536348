"""
Finds tokens, paths of this machine and identifiers of patients in a text, in whatever Unicode form and escapes they
are written.
"""

import re
from pathlib import Path

from .plain_text import plain


# Tokens of the Hub, GitHub, GitLab, Weights & Biases, OpenAI, AWS, Google, Slack, npm, PyPI, Groq, Replicate and xAI;
# private keys, passwords in addresses, what is named a key or a password, and JSON web tokens. Of JSON web tokens, the
# middle is looked for: many places of a long word could be their beginning, and the word would be read from each place
# to its end.
TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:hf_(?:oauth_)?|api_org_)[A-Za-z0-9]{16,}|gh[a-z]_[A-Za-z0-9]{30,}|github_pat_\w{22,}"
    r"|glpat-[\w-]{20,}|wandb_v\d_\w{16,}|sk-[\w-]{20,}|A[KS]IA[A-Z0-9]{16}|AIza[\w-]{30,}|xox[a-z]-[\w-]{20,}"
    r"|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}|gsk_[A-Za-z0-9]{30,}|r8_[A-Za-z0-9]{30,}|xai-[A-Za-z0-9]{30,})"
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY|(?<=://)[^\s/:@]{1,100}:[^\s/@]{1,200}@|(?i:\bBearer [\w.~+/-]{20,})"
    r"|(?i:(?:api|access|account|secret)[_-]?key|password|secret)[\"']?[ \t]*[=:][ \t]*[\"']?[\w+/.~-]{16,}"
    r"|(?<=[\w-]{8})\.eyJ[\w-]{8,}\.[\w-]"
)
# What DICOM calls a patient and a study, followed by a value. UIDs, except those that DICOM itself has named.
IDENTIFIER = re.compile(
    r"\b(?:Patient(?:'s )?(?:Name|ID|BirthDate|Address)|AccessionNumber|(?:Study|Series|SOP)InstanceUID)\b"
    r"(?=[\"'`*]{0,4}[ \t]*(?:[:=|]|$))"
    r"|(?<![\w.])(?!1\.2\.840\.10008\.)[0-2](?:\.\d{1,64}){6,20}(?!\w|\.\w)|(?<![\w.])2\.25\.\d{20,40}",
    re.MULTILINE,
)
# Folders at the root of a machine. Others, such as /usr, are the same on many machines.
ROOTS = (
    *("home", "root", "Users", "mnt", "media", "Volumes", "data", "datasets?", "scratch", "work", "workspace", "tmp"),
    *("var", "srv", "opt", "nfs", "gpfs", "lustre", "beegfs", "storage", "projects?", "cluster", "autofs", "net"),
    *("private", "content", "kaggle", "fsx", "efs", "local", "shared?", "export", "vol", "mount", "cygdrive", "homes"),
    *("raid", "ssd", "hdd", "nvme\\w*", "sata", "disks?", "nas", "ceph", "cephfs", "weka", "pfs", "ptmp", "lscratch"),
    *("afs", "cvmfs", "dbfs", "gcs", "hpc", "proj", "archive", "research", "labs?", "groups?", "dev/shm", "run/media"),
)
HOME = re.compile(
    r"(?:/home/|/root/|/Users/|(?:file|smb|cifs|nfs|afp|sftp):/+|(?<![\w.~/-])~/|[A-Za-z]:\\+Users\\+)[\w.%~-]+"
    rf"|(?<![\w.~/-])/(?:{'|'.join(ROOTS)})\d*/[\w.~-]+"
    r"|(?:\$\{?HOME\}?|%(?:USERPROFILE|APPDATA|HOMEPATH)%)[/\\]+[\w.-]+",
    re.IGNORECASE,
)
# A drive and a share of Windows. Templates have escapes that look like these, and formulas `f:\mathbb`. A share with
# slashes is known by its server, whose name has no dot: `//cdn.example.org/x` is an address.
WINDOWS = re.compile(
    r"(?<![A-Za-z])(?:[A-Z]:\\+|[A-Za-z]:/|[a-z]:\\+[\w.$~-]+[\\/]+)[\w.$~-]+"
    r"|(?<![\\\w])\\\\+(?:\?\\+)?[\w.$-]+\\+[\w.$-]+"
    r"|(?<![\w.:/])//[\w$-]+/[\w.$-]+"
)
# Any local path. Only settings are searched for it, because a text may have slashes of its own.
LOCAL_PATH = re.compile(
    r"(?<![\w./])(?:(?:/|[A-Za-z]:[/\\]+)[\w.-]+[/\\]+|(?:~(?:[A-Za-z_][\w-]*)?|\.\.?|\$\{?[A-Z_]+\}?)[/\\]+)[\w.-]+"
    r"|(?<![\w.:/])//+[\w.$-]+/+[\w.$-]+"
)
# A setting that is a path as a whole, such as `/ct`. Within a text this may be anything: `</s>`, `[/INST]`.
WHOLE_PATH = re.compile(r"^[ \t]*(?:/+|[A-Za-z]:[/\\]+)[\w.~-][\w.~() \t\r-]*[/\\]?$|(?<=\w=)/[\w.~-]+", re.MULTILINE)


def find_token(text: str, token: str | None) -> bool:
    """Whether a text holds something of the form of a token, or `token` itself, even over several lines."""
    text = plain(text).replace("\\_", "_")  # as Markdown escapes it
    return bool(TOKEN.search(text)) or bool(token and (token in text or token in "".join(text.split())))


def find_identifier(text: str) -> str | None:
    """The name of the first attribute of DICOM that identifies a patient, or "a UID"; `None` if there is none."""
    found = IDENTIFIER.search(plain(text))
    return found and ("a UID" if found[0][0].isdigit() else found[0])


def find_path(
    text: str, folder: Path, *, settings: bool = False, template: bool = False, tokens: bool = False
) -> str | None:
    """
    The first path of this machine in a text.

    Args:
        text (`str`):
            The text.
        folder (`Path`):
            A folder whose own path must not be in the text, nor that of the user's home.
        settings (`bool`, *optional*, defaults to `False`):
            Whether the text is of settings, in which any path is found. In other texts, `a/b` may be anything.
        template (`bool`, *optional*, defaults to `False`):
            Whether the text is a chat template, in which `\\n` is no path of Windows.
        tokens (`bool`, *optional*, defaults to `False`):
            Whether the text lists tokens of a model. One of them may be `/nothink`, which is no folder.

    Returns:
        `str` or `None`: the path; `None` if there is none.
    """
    text = plain(text)
    with_slashes = "\n".join(word for word in text.split() if "/" in word or "\\" in word)  # of a text, a small part
    for pattern in (HOME, *[WINDOWS] * (not template), *[LOCAL_PATH] * settings):
        if found := pattern.search(with_slashes):
            return found[0]
    if settings and not tokens and (found := WHOLE_PATH.search(text)):
        return found[0].strip()
    here = [str(path) for path in (folder.resolve(), Path.home()) if len(path.parts) > 2]
    return next((path for path in here if path in text), None)
