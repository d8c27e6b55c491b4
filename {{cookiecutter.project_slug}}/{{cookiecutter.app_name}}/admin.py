from django.contrib import admin

from .models import Contact


@admin.register(Contact)
class ContactAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["email", "name", "company", "phone"]
    search_fields = ["email", "name", "company"]
