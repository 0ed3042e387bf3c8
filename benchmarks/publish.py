"""The dashboard: ``python -m benchmarks.publish`` does what ``asv publish`` does, and writes the page of its commits.

The dashboard's links to commits lead to that page, so that they work where the repository is on no server.
"""

import html
import json
import subprocess
import sys
from pathlib import Path

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>commits</title>
<style>body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
section:target, section:has(:target) {{ background: #ffc }} pre {{ white-space: pre-wrap }}</style></head>
<body><p><a href="index.html">to the dashboard</a></p>
{commits}
</body></html>
"""
COMMIT = """<section id="{full}"><a id="{full:.8}"></a><h3>{subject}</h3>
<p>{date} <code>{short}</code></p><pre>{body}</pre></section>"""


def commits(branches: list[str]) -> str:
    """Every commit of the branches, newest first, each where its hash leads, in full or its first eight digits."""
    command = ["git", "log", "--format=%H%x00%h%x00%as%x00%s%x00%b%x01", *branches]
    log = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True).stdout
    found = []
    for entry in filter(None, map(str.strip, log.split("\x01"))):
        fields = (html.escape(field.strip()) for field in entry.split("\0"))
        found.append(COMMIT.format(**dict(zip(("full", "short", "date", "subject", "body"), fields, strict=True))))
    return PAGE.format(commits="\n".join(found))


def main(arguments: list[str]) -> int:
    """Publish, with the options of ``asv publish``."""
    done = subprocess.run([sys.executable, "-m", "asv", "publish", *arguments], check=False).returncode
    if done == 0:
        named = arguments[arguments.index("--config") + 1] if "--config" in arguments else "asv.conf.json"
        config = json.loads(Path(named).read_text("utf-8"))
        (Path(named).parent / config["html_dir"] / "commits.html").write_text(commits(config["branches"]), "utf-8")
    return done


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
