"""The worker runs Django's tasks, also those of apps that know nothing of the project."""

import pytest
from conftest import Project, Stack, both_stacks
from documents import blocks, follow, lint, section, sort_imports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# All that Wagtail needs in the project.
WAGTAIL = """
INSTALLED_APPS += [
    "django.contrib.postgres",
    "wagtail.users",
    "wagtail.images",
    "wagtail.documents",
    "wagtail.search",
    "wagtail.admin",
    "wagtail",
    "taggit",
]
WAGTAIL_SITE_NAME = "Trees"
WAGTAILADMIN_BASE_URL = "http://localhost"
"""

PUBLISH = """
from django.db import transaction
from wagtail.models import Page

def publish(title):
    page = Page.objects.get(depth=1).add_child(instance=Page(title=title))
    page.save_revision().publish()

with transaction.atomic():
    publish("Larch")
    transaction.set_rollback(True)
publish("Spruce")
"""

LOOK = """
from jobs.models import QueuedJob
from wagtail.models import Page

print("found:", [page.title for page in Page.objects.live().search("spruce")])
jobs = QueuedJob.objects.filter(task_name="django.task")
print("jobs:", sorted({(job.args["task"], job.status) for job in jobs}))
print("number:", jobs.count())
"""


@both_stacks
def test_wagtails_pages_are_indexed_by_the_worker(editable: Project, stack: Stack) -> None:
    stack.start_database(editable)
    settings = editable.path / editable.slug / "settings.py"
    settings.write_text(settings.read_text() + WAGTAIL)
    wagtail = ("--quiet", "--with", "wagtail")
    editable.run(*wagtail, "manage.py", "migrate")
    editable.run(*wagtail, "manage.py", "check", "--fail-level", "WARNING")

    def look(code: str) -> str:
        shell = ("manage.py", "shell", "--verbosity=0", "-c", code)
        return editable.run(*wagtail, *shell).stdout

    look(PUBLISH)
    before = look(LOOK)
    assert "found: []" in before
    # What was rolled back left no job.
    assert "number: 6" in before
    worker = ("procrastinate", "--app=tasks.app", "worker", "--one-shot")
    editable.run(*wagtail, *worker, PYTHONPATH=".")
    after = look(LOOK)
    assert "found: ['Spruce']" in after
    index, references = (
        "modelsearch.tasks.insert_or_update_object_task",
        "wagtail.tasks.update_reference_index_task",
    )
    assert f"jobs: [('{index}', 'succeeded'), ('{references}', 'succeeded')]" in after


def test_with_the_package_for_django_5_the_backend_passes_its_tests(site: Project) -> None:
    tests = "jobs/tests/test_tasks_backend.py"
    without = site.run("pytest", "-q", tests, check=False).stdout
    assert "1 skipped" in without
    done = site.run("--with", "django-tasks", "pytest", "-q", "-n", "2", tests)
    assert "no django.tasks" not in done.stdout


@pytest.mark.parametrize("stack", ["3.13"], indirect=True, scope="session")
def test_the_chapter_on_djangos_tasks(editable: Project, stack: Stack) -> None:
    stack.start_database(editable)
    editable.run("manage.py", "startapp", "shop")
    editable.run("manage.py", "migrate")
    chapter = section(editable, "docs/jobs.md", "Django's tasks")
    assert len([*blocks(chapter, "python")]) == 3
    follow(editable, chapter)
    sort_imports(editable)
    lint(editable)
    editable.run("pytest", "-q", "shop")
