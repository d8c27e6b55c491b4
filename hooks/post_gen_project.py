"""Create the new project's .env and print what to type next."""

import os
import shlex
import shutil
from pathlib import Path

if not Path(".env").exists():  # with --overwrite-if-exists, it may be the user's
    shutil.copyfile(".env.example", ".env")

# With --output-dir, the project is not in the user's current folder.
project = Path.cwd()
here = os.environ.get("PWD") == str(project.parent)
folder = project.name if here else shlex.quote(str(project))

port = os.environ.get("PORT", "8000")
if port == "5000":  # see Procfile.dev
    port = "8000"

print(f"""
Start {project.name} with these two lines, then open http://127.0.0.1:{port}

    cd {folder}
    uv run honcho start web worker
""")
