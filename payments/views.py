"""Views of payments: the receiver of the bank's webhooks."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from payments import webhooks
from payments.gateway import ReportRefused


class BankWebhook(APIView):
    """Receives the bank's webhooks; the signature over the body's bytes is their authentication."""

    authentication_classes = []
    permission_classes = []
    throttle_classes = []  # the bank sends a rejected report again

    @extend_schema(exclude=True)  # it is for the bank, not for customers
    def post(self, request: Request) -> Response:
        try:
            webhooks.receive(body=request.body, headers=request.headers)
        except ReportRefused as refusal:
            raise ParseError(str(refusal)) from refusal
        return Response(status=204)
