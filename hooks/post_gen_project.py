"""Give the new project its .env and say what to type next."""

import shutil
from pathlib import Path

PROJECT_SLUG = {{cookiecutter.project_slug | jsonify}}

if not Path(".env").exists():  # cookiecutter --overwrite-if-exists, and .env is the user's
    shutil.copyfile(".env.example", ".env")

print(f"""
Start {PROJECT_SLUG} with these two lines, then open http://127.0.0.1:8000

    cd {PROJECT_SLUG}
    uv run honcho start web worker
""")
