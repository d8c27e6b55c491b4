"""The login page with the developer's button, and the developers' panel."""

from django.urls import path

from . import panel, views

app_name = "devdb"
urlpatterns = [
    path("accounts/login/", views.DeveloperLoginView.as_view()),
    path("accounts/login/developer/", views.log_in_as_developer, name="login"),
    path("devdb/panel/", panel.panel, name="panel"),
]
