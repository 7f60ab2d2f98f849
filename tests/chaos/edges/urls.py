from django.urls import path

from outbox.sources.http import receive

urlpatterns = [path("events/<str:source>/", receive)]
