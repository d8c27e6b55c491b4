"""The tables of the measurements."""

from django.db import models


class Item(models.Model):
    """A row with a number that real jobs count up."""

    count = models.IntegerField(default=0)


class Effect(models.Model):
    """A row that a job writes each time it runs."""

    job = models.BigIntegerField()


class Call(models.Model):
    """A job of django-pgpubsub, which keeps jobs in a table of the project."""

    name = models.CharField(max_length=10)
    sent = models.FloatField()
