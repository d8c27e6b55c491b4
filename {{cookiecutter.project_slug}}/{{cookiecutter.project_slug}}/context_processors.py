"""Variables for all templates."""

from django.apps import apps
from django.http import HttpRequest


def nav(request: HttpRequest) -> dict[str, dict[str, str]]:
    """Return the apps' links, from `nav` of their configs: URL names by link text."""
    navs = [getattr(config, "nav", {}) for config in apps.get_app_configs()]
    return {"nav": {text: url for nav in navs for text, url in nav.items()}}
