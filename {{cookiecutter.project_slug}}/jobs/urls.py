"""The pages of the queues and of the jobs, and the metrics."""

from django.urls import path

from . import views

app_name = "jobs"
urlpatterns = [
    path("jobs/", views.queues, name="queues"),
    path("jobs/list/", views.jobs, name="jobs"),
    path("jobs/<int:pk>/", views.job, name="job"),
    path("metrics", views.metrics, name="metrics"),
]
