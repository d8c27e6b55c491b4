"""What is measured: a table of queues, their packages, settings and worker commands."""

from dataclasses import dataclass, field, replace
from typing import Any

DJANGO = ("python", "-m", "django")
REDIS_URL = "the address of Redis"  # replaced in settings by the real one


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One queue in one configuration.

    Attributes:
        name: Its name in the results.
        queue: The module in ``site/load/queues`` that enqueues its jobs.
        packages: What is installed from PyPI, besides Django; the rendered project has its own.
        worker: The command of one worker.
        processes: How many of them run.
        apps: Django apps.
        settings: Django settings.
        env: Environment variables.
        install: The command that makes its tables, if `migrate` does not.
        redis: Whether jobs are kept in Redis rather than in PostgreSQL.
        jobs: Which kinds of jobs it runs, the keys of `load.jobs`, or "locked".
        note: What is not fair, for or against it.
    """

    name: str
    queue: str
    worker: tuple[str, ...]
    packages: tuple[str, ...] = ()
    processes: int = 1
    apps: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    install: tuple[str, ...] = ()
    redis: bool = False
    jobs: tuple[str, ...] = ("noop", "real")
    note: str = ""


BOTH = ("noop", "real", "anoop", "areal")
LOCKS = (*BOTH, "locked")
REDIS = "Redis loses up to a second of jobs in a crash, and is outside of Django's transactions."
RENDERED = Peer(
    name="this project",
    queue="rendered",
    worker=("procrastinate", "--app=tasks.app", "worker"),
    jobs=LOCKS,
)
PLAIN = Peer(
    name="Procrastinate",
    queue="procrastinate",
    packages=("procrastinate[django]==3.10.0", "psycopg[binary,pool]==3.3.9"),
    worker=(*DJANGO, "procrastinate", "worker"),
    apps=("procrastinate.contrib.django",),
    jobs=LOCKS,
    note="Its default worker: one job at a time.",
)
CELERY = Peer(
    name="Celery",
    queue="celery",
    packages=("celery[redis]==5.7.0",),
    worker=("celery", "--app=load.queues.celery", "worker", "--concurrency=2"),
    settings={"CELERY_BROKER_URL": REDIS_URL},
    redis=True,
    note=f"Acknowledges a job before it runs: a crash loses the job. {REDIS}",
)
CELERY_LATE = replace(
    CELERY,
    name="Celery, acks late",
    settings=CELERY.settings | {"CELERY_TASK_ACKS_LATE": True},
    note=REDIS,
)
CELERY_REUSE = replace(
    CELERY_LATE,
    name="Celery, acks late, connections reused",
    settings=CELERY_LATE.settings | {"CELERY_DB_REUSE_MAX": 1000},
)
DRAMATIQ = Peer(
    name="dramatiq",
    queue="dramatiq",
    packages=("dramatiq[redis]==2.2.1", "django-dramatiq==0.15.0"),
    worker=(*DJANGO, "rundramatiq", "--processes=2"),
    apps=("django_dramatiq",),
    settings={
        "DRAMATIQ_BROKER": {
            "BROKER": "dramatiq.brokers.redis.RedisBroker",
            "OPTIONS": {"url": REDIS_URL},
            "MIDDLEWARE": [
                "dramatiq.middleware.AgeLimit",
                "dramatiq.middleware.TimeLimit",
                "dramatiq.middleware.Callbacks",
                "dramatiq.middleware.Retries",
                "django_dramatiq.middleware.DbConnectionsMiddleware",
            ],
        }
    },
    redis=True,
    note=f"2 processes of 8 threads, its default here; jobs are fetched ahead. {REDIS}",
)
HUEY = Peer(
    name="huey",
    queue="huey",
    packages=("huey==3.5.4", "redis==8.1.0"),
    worker=(*DJANGO, "run_huey", "--workers=2", "--worker-type=process"),
    apps=("huey.contrib.djhuey",),
    settings={"HUEY": {"name": "bench", "url": REDIS_URL}},
    redis=True,
    note=f"Takes a job from the queue before it runs it: a crash loses the job. {REDIS}",
)
DJANGO_Q = Peer(
    name="django-q2",
    queue="django_q",
    packages=("django-q2==1.11.1",),
    worker=(*DJANGO, "qcluster"),
    apps=("django_q",),
    settings={
        "Q_CLUSTER": {"orm": "default", "workers": 2, "bulk": 20, "timeout": 60, "retry": 120}
    },
    note="2 workers, 20 jobs at once, kept in memory; it polls, and keeps 250 finished jobs.",
)
DJANGO_TASKS = Peer(
    name="django-tasks-db",
    queue="django_tasks",
    packages=("django-tasks-db==0.13.0",),
    worker=(*DJANGO, "db_worker", "--interval=0.1"),
    processes=2,
    apps=("django_tasks_db",),
    settings={"TASKS": {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}},
    jobs=BOTH,
    note="2 processes; it polls, here 10 times a second.",
)
OX = Peer(
    name="django-ox",
    queue="django_ox",
    packages=("django-ox==1.9.1",),
    worker=(*DJANGO, "ox_worker", "--processes=2", "--concurrency=4", "--interval=0.1"),
    apps=("django_ox",),
    settings={"TASKS": {"default": {"BACKEND": "django_ox.backend.OxBackend"}}},
    jobs=BOTH,
    note="2 processes of 4 threads; it polls, here 10 times a second.",
)
PGQUEUER = Peer(
    name="PgQueuer",
    queue="pgqueuer",
    packages=("pgqueuer[asyncpg,psycopg]==1.6.0", "typer<0.20"),
    worker=("pgq", "run", "load.queues.pgqueuer:worker"),
    install=("pgq", "install"),
    jobs=BOTH,
    note="Fetches 10 jobs at once and acknowledges in batches: a crash repeats more of them.",
)
OBAN = Peer(
    name="Oban",
    queue="oban",
    packages=("oban==0.7.0",),
    worker=("oban", "start", "--queues=default:10", "--cron-modules=load.queues.oban"),
    install=("oban", "install"),
    jobs=BOTH,
    note="10 jobs at once. Async only, and so outside of Django's transactions.",
)
AWA = Peer(
    name="awa",
    queue="awa",
    packages=("awa-pg==0.6.9",),
    worker=("python", "-m", "load.queues.awa"),
    install=("python", "-m", "load.queues.awa", "install"),
    jobs=BOTH,
    note="Its worker is written in Rust. 100 jobs at once, taken and finished in batches: a crash "
    "repeats more of them. With 10 at once, it is about half as fast. Its batches are enqueued "
    "outside of Django's transactions.",
)
PGPUBSUB = Peer(
    name="django-pgpubsub",
    queue="pgpubsub",
    packages=("django-pgpubsub==1.3.1",),
    worker=(*DJANGO, "listen", "--recover", "--processes=2"),
    apps=("pgtrigger", "pgpubsub"),
    install=(*DJANGO, "pgtrigger", "install"),
    note="Waiting jobs run in one transaction of one process; no retries, no scheduling.",
)

PEERS = (
    PLAIN,
    RENDERED,
    replace(RENDERED, name="this project, 2 processes", processes=2),
    replace(
        RENDERED,
        name="this project, @task",
        env={"BENCH_QUEUE": DJANGO_TASKS.queue},
        note="The same functions as django-tasks-db, enqueued with Django's own @task.",
    ),
    CELERY,
    CELERY_LATE,
    CELERY_REUSE,
    DRAMATIQ,
    HUEY,
    DJANGO_Q,
    DJANGO_TASKS,
    OX,
    PGQUEUER,
    OBAN,
    AWA,
    PGPUBSUB,
)

# The rendered project without one of its settings, or with something that it does not have.
SETTINGS = (
    RENDERED,
    *(
        replace(RENDERED, name=f"{word} {what}", env=env)
        for word, what, env in (
            ("without", "concurrency", {"PROCRASTINATE_WORKER_CONCURRENCY": "1"}),
            ("with", "concurrency 10", {"PROCRASTINATE_WORKER_CONCURRENCY": "10"}),
            ("without", "autocommit", {"BENCH_VARIANT": "no autocommit"}),
            ("without", "enable_sort = off", {"BENCH_VARIANT": "sort"}),
            ("without", "Django's pool, CONN_MAX_AGE 60", {"BENCH_VARIANT": "persistent"}),
            ("without", "Django's pool, CONN_MAX_AGE 0", {"BENCH_VARIANT": "reconnect"}),
            ("without", "log lines", {"BENCH_VARIANT": "quiet"}),
            ("without", "lanes", {"BENCH_VARIANT": "no lanes"}),
            ("with", "atomic jobs", {"BENCH_VARIANT": "atomic"}),
        )
    ),
    replace(RENDERED, name="with 2 processes", processes=2),
    replace(
        RENDERED,
        name="with uvloop",
        packages=("uvloop==0.23.0",),
        worker=("python", "-m", "load.uvloop", *RENDERED.worker[1:]),
    ),
)

# What a crash or a rollback does to jobs. Each queue runs four at once, and has its defaults otherwise.
FOUR = replace(
    CELERY,
    worker=("celery", "--app=load.queues.celery", "worker", "--concurrency=4"),
    note="As cookiecutter-django sets it up. A job is acknowledged before it runs, so a crash loses "
    "those that run. Those that were fetched ahead come back after an hour, the default "
    "`visibility_timeout` of Redis. `delay()` sends a job at once, whatever becomes of the "
    "transaction.",
)
FAULTS = (
    replace(
        RENDERED,
        note="Another worker puts the jobs of a dead one back into the queue, and they run again.",
    ),
    replace(
        RENDERED,
        name="this project, atomic",
        env={"BENCH_VARIANT": "atomic"},
        note="`@job(atomic=True)`: the rows that a job writes and its end are one transaction.",
    ),
    replace(
        PLAIN,
        env={"PROCRASTINATE_WORKER_CONCURRENCY": "4"},
        note="By itself, it leaves the jobs of dead workers as they are. Its documentation shows a "
        "task that retries them, which you add to your project.",
    ),
    FOUR,
    replace(
        FOUR,
        name="Celery, delay_on_commit",
        env={"BENCH_VARIANT": "on commit"},
        note="Sends a job right after the commit: a crash in between loses the job.",
    ),
    replace(
        FOUR,
        name="Celery, acks late",
        settings=CELERY_LATE.settings,
        note="`CELERY_TASK_ACKS_LATE = True`. What a dead worker had fetched or begun comes back "
        "after an hour; those that had their effect then have it again. A job is lost if the worker "
        "is killed between taking it from Redis's list and noting there that it has it.",
    ),
    replace(
        FOUR,
        name="Celery, acks late, visibility timeout of 30 s",
        settings=CELERY_LATE.settings
        | {"CELERY_BROKER_TRANSPORT_OPTIONS": {"visibility_timeout": 30}},
        note="A job that waits in a worker or runs for longer than the timeout runs twice even "
        "without a crash.",
    ),
    replace(
        DJANGO_Q,
        settings={"Q_CLUSTER": {"orm": "default", "workers": 4}},
        note="Jobs are acknowledged by one process, after they have ended in another: a crash repeats "
        "more of them. What was not acknowledged runs again after `retry`, by default 60 seconds; so "
        "does a job that takes longer, while it still runs.",
    ),
    replace(
        DJANGO_TASKS,
        processes=4,
        note="The jobs of dead workers stay `RUNNING`, and nothing retries them.",
    ),
)

# Ways to serve the rendered project's pages; its own way is in gunicorn.conf.py.
GUNICORN = replace(
    RENDERED, name="1 process, 4 threads", worker=("gunicorn", "my_project.wsgi"), jobs=()
)
WEB = (
    GUNICORN,
    *(
        replace(
            GUNICORN,
            name=name,
            env={"GUNICORN_CMD_ARGS": f"--workers={processes} --threads={threads}"},
        )
        for name, processes, threads in (
            ("1 process, 1 thread", 1, 1),
            ("1 process, 16 threads", 1, 16),
            ("2 processes, 1 thread", 2, 1),
            ("2 processes, 4 threads", 2, 4),
            ("4 processes, 1 thread", 4, 1),
        )
    ),
    replace(
        GUNICORN,
        name="uvicorn",
        packages=("uvicorn==0.40.0",),
        worker=("uvicorn", "my_project.asgi:application"),
    ),
)
