"""The root URL configuration."""

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.templatetags.static import static
from django.urls import include, path
from django.utils.functional import lazy
from django.views.generic import RedirectView, TemplateView

from users.views import admin_login, password_reset

# Lazy, because the manifest of static files may not be there yet.
ICON = lazy(static, str)("icon.svg")

handler500 = "{{ cookiecutter.project_slug }}.errors.server_error"

urlpatterns = [
    # Before the admin's own login: the project has only one login page.
    path("admin/login/", admin_login),
    path("admin/", admin.site.urls),
    path("accounts/password_reset/", password_reset, name="password_reset"),
    path("accounts/", include("django.contrib.auth.urls")),
    # Browsers ask for it where no page names an icon.
    path("favicon.ico", login_not_required(RedirectView.as_view(url=ICON))),
    path("", include("jobs.urls")),
    path("", include("{{ cookiecutter.app_name }}.urls")),
    # startapp adds apps above this line.
    # The home page, unless an app above has one.
    path("", TemplateView.as_view(template_name="blank.html")),
]

if apps.is_installed("devdb"):
    # First: the same login page with one more button, to log in as developer.
    urlpatterns.insert(0, path("", include("devdb.urls")))
