"""Logging in as the developer, without a password, on the developer's own machine."""

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model, login
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

USERNAME, EMAIL = "dev", "dev@example.com"
"""The superuser that `manage.py devdb up` creates."""

LOOPBACK = ("127.0.0.1", "::1")


def developer_lookup() -> dict[str, str]:
    """Return the field that users log in with, and its value for the developer."""
    model: Any = get_user_model()
    by_email = model.get_email_field_name() == model.USERNAME_FIELD
    return {model.USERNAME_FIELD: EMAIL if by_email else USERNAME}


def may_log_in_as_developer(request: HttpRequest) -> bool:
    """Tell if the request may log in without a password.

    Only with DEBUG, on the embedded database, from this machine and not through a
    proxy, which would make every client look local.
    """
    return (
        settings.DEBUG
        and settings.DEVDB
        and request.META["REMOTE_ADDR"] in LOOPBACK
        and not any(name.startswith("HTTP_X_FORWARDED") for name in request.META)
    )


class DeveloperLoginView(LoginView):
    """The login page with one more button, to log in as the developer."""

    template_name = "devdb/login.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {
            **super().get_context_data(**kwargs),
            "may_log_in_as_developer": may_log_in_as_developer(self.request),
        }


@login_not_required
@require_POST
def log_in_as_developer(request: HttpRequest) -> HttpResponse:
    """Log in the superuser of the development database."""
    if not may_log_in_as_developer(request):
        raise Http404
    user = get_object_or_404(get_user_model(), **developer_lookup())
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    target = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(target, allowed_hosts=None):
        target = settings.LOGIN_REDIRECT_URL
    return redirect(target)
