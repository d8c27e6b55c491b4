from django.urls import path

from . import views

app_name = "devdb"
urlpatterns = [
    path("", views.DeveloperLoginView.as_view()),
    path("developer/", views.log_in_as_developer, name="login"),
]
