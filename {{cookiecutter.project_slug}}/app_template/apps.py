from django.apps import AppConfig


class AppTemplateConfig(AppConfig):
    name = "app_template"

    def ready(self) -> None:
        """Register the check."""
        from . import checks  # noqa: F401
