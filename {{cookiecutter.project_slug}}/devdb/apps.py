from django.apps import AppConfig


class DevDBConfig(AppConfig):
    name = "devdb"

    def ready(self) -> None:
        """Register the check."""
        from . import checks  # noqa: F401
