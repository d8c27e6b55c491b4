"""The tables of the measurements."""

from django.db import models


class Item(models.Model):
    """A row with a number that real jobs count up."""

    count = models.IntegerField(default=0)


class Call(models.Model):
    """A job, for the queue whose jobs are rows of the project's own."""

    name = models.CharField(max_length=10)
    sent = models.FloatField()
