"""Give the new project its .env and say what to type next."""

import os
import shlex
import shutil
from pathlib import Path

if not Path(".env").exists():  # cookiecutter --overwrite-if-exists, and .env is the user's
    shutil.copyfile(".env.example", ".env")

# With --output-dir, the project is not below the folder that the user is in.
project = Path.cwd()
here = os.environ.get("PWD") == str(project.parent)
folder = project.name if here else shlex.quote(str(project))

print(f"""
Start {project.name} with these two lines, then open http://127.0.0.1:8000

    cd {folder}
    uv run honcho start web worker
""")
