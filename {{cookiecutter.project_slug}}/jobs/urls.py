"""The queues' page, and the metrics."""

from django.urls import path

from . import views

app_name = "jobs"
urlpatterns = [
    path("jobs/", views.queues, name="queues"),
    path("metrics", views.metrics, name="metrics"),
]
