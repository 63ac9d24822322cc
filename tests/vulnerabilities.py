"""`make vulnerabilities`: pip-audit looks the locked packages up among known vulnerabilities.

A database that cannot be reached is no answer, and pip-audit would take a registry that knows no
advisories for one that has none. So an old release with known holes is asked about first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).parent.parent / "requirements-hashed.lock"
KNOWN = "jinja2==2.4.1"  # has had advisories since 2014
PIP_AUDIT = (sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--disable-pip")


def answers() -> bool:
    """Whether a database answers and knows of the holes in an old release."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(f"{KNOWN}\n")
        file.flush()
        command = [*PIP_AUDIT, "--no-deps", "--format", "json", "--requirement", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):  # it gave up
        return False
    return any(package.get("vulns") for package in found)


def main() -> int:
    """Print what is known of the locked packages; 0 if nothing is, or no database answers."""
    if not answers():
        print("No database of vulnerabilities can be reached from here, so nothing was looked up.")
        return 0
    command = [*PIP_AUDIT, "--require-hashes", "--requirement", str(LOCK)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
