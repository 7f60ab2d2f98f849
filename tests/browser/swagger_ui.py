"""What axe finds in Swagger UI, whose script writes all that stands in the API's documentation.

No attribute of it can be set from outside. Colours are ours: shop/static/shop/api_docs.css.
"""

from __future__ import annotations

from tests.browser.accepted_findings import AcceptedFinding

KNOWN = (
    AcceptedFinding(
        "region",
        "#swagger-ui .information-container",
        "The title and the button for a token stand before its <main>, in no landmark; one around "
        "all of it would hold that <main>, which is a fault too.",
    ),
    AcceptedFinding(
        "region",
        "#swagger-ui .auth-wrapper",
        "The dialog that asks for a token has no role.",
    ),
    AcceptedFinding(
        "heading-order",
        "#swagger-ui h3.opblock-tag",
        "Its groups are <h3> right below the <h1> of the title.",
    ),
    AcceptedFinding(
        "heading-order",
        "#swagger-ui h4",
        "Its tables and webhooks have an <h4> each, without the level above.",
    ),
    AcceptedFinding(
        "heading-order",
        "#swagger-ui .modal-ux-header h3",
        "So has that dialog: an <h3>.",
    ),
    AcceptedFinding(
        "scrollable-region-focusable",
        "#swagger-ui pre.microlight",
        "A long example scrolls, and cannot be reached by Tab.",
    ),
    AcceptedFinding(
        "landmark-unique",
        "#swagger-ui table.responses-table",
        "Each table of answers is a region without a name.",
    ),
    AcceptedFinding(
        "label",
        "#swagger-ui textarea.body-param__text",
        "The field for a request's body has an empty title and no label.",
    ),
    AcceptedFinding(
        "button-name",
        "#swagger-ui button.close-modal",
        "The cross that closes the dialog is a picture without a text.",
    ),
    AcceptedFinding(
        "label-content-name-mismatch",
        "#swagger-ui .auth-btn-wrapper",
        "Its button Authorize is named Apply credentials for those who do not see it.",
    ),
)
