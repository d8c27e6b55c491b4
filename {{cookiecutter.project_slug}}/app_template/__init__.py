"""What `manage.py startapp` makes: one folder, to make your own or to delete."""
