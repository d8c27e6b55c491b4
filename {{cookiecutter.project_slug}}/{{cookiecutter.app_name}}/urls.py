from django.urls import path

from . import views

app_name = "contacts"
urlpatterns = [
    path("", views.index, name="index"),
    path("imports/", views.imports, name="imports"),
    path("imports/sample/", views.sample, name="sample"),
    path("imports/<int:pk>/cancel/", views.cancel, name="cancel"),
    path("imports/<int:pk>/retry/", views.retry, name="retry"),
    path("imports/<int:pk>/rejected.csv", views.rejected, name="rejected"),
    path("contacts/", views.contacts, name="contacts"),
]
