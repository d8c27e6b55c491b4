"""The root URL configuration."""

from django.apps import apps
from django.contrib import admin
from django.urls import include, path
from django.views.generic import TemplateView

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("django.contrib.auth.urls")),
    path("", include("jobs.urls")),
    path("", include("{{ cookiecutter.app_name }}.urls")),
    # startapp adds apps above this line.
    # The first page, as long as no app above has one.
    path("", TemplateView.as_view(template_name="blank.html")),
]

if apps.is_installed("devdb"):
    # First, because its login page has one button more.
    urlpatterns.insert(0, path("", include("devdb.urls")))
