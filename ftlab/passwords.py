"""The users of a classroom: a file of names and hashed passwords, which a teacher makes and keeps.

Each line is `name salt hash`, the hash being scrypt's (RFC 7914) with the parameters below.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from . import homes
from .records import BadInput

COST = dict(n=2**14, r=8, p=1)
LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # none that is taken for another


def give(file: Path, names: Sequence[str]) -> dict[str, str]:
    """Give each of these people a new password, in words for the teacher: {name: password}.

    Names that are not in the file yet are added; only the hashes are written.

    Raises:
        BadInput: a name cannot be a person's, or the file is no such file.
    """
    for name in names:
        homes.check_owner(name)
    given = {name: "-".join(_part() for _ in range(3)) for name in names}
    users = read(file) if file.exists() else {}
    for name, password in given.items():
        salt = secrets.token_hex(16)
        users[name] = salt, _hash(password, salt)
    lines = (f"{name} {salt} {digest}\n" for name, (salt, digest) in users.items())
    unfinished = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    unfinished.touch(mode=0o600)
    unfinished.write_text("".join(lines), encoding="utf-8")
    os.replace(unfinished, file)
    return given


def _part() -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(5))


def read(file: Path) -> dict[str, tuple[str, str]]:
    """{name: (salt, hash)} of a users file.

    Raises:
        BadInput: there is no such file, or a line of it is no user's.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        how = f"make one with `ftlab users {file.name} NAME...`"
        raise BadInput(f"The users file {file.name} cannot be read: {how}.") from None
    users = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, *secret = line.split()[:3] or [""]
        if len(secret) != 2:
            raise BadInput(f"Line {number} of {file.name} is no user's: name, salt and hash.")
        homes.check_owner(name)
        users[name] = tuple(secret)
    return users


def checker(file: Path) -> Callable[[str, str], bool]:
    """Whether a name and a password belong together; the file is read anew each time.

    Raises:
        BadInput: as `read`, or nobody is in the file.
    """
    if not read(file):
        raise BadInput(f"Nobody is in {file.name} yet: `ftlab users {file.name} NAME...`.")

    def check(name: str, password: str) -> bool:
        salt, digest = read(file).get(name, ("nobody's", ""))
        return hmac.compare_digest(_hash(password, salt), digest)  # as long for nobody's

    return check


def _hash(password: str, salt: str) -> str:
    return hashlib.scrypt(password.encode(), salt=salt.encode(), **COST).hex()
