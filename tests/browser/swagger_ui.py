"""What axe finds in Swagger UI, whose script writes all that stands in the API's documentation.

No attribute of it can be set from outside. Colours are ours: shop/static/shop/api_docs.css.
"""

from __future__ import annotations

from tests.browser.known import Known

KNOWN = (
    Known(
        "region",
        "#swagger-ui .information-container",
        "The title and the button for a token stand before its <main>, in no landmark; one around "
        "all of it would hold that <main>, which is a fault too.",
    ),
    Known(
        "region",
        "#swagger-ui .auth-wrapper",
        "The dialog that asks for a token has no role.",
    ),
    Known(
        "heading-order",
        "#swagger-ui h3.opblock-tag",
        "Its groups are <h3> right below the <h1> of the title.",
    ),
    Known(
        "heading-order",
        "#swagger-ui h4",
        "Its tables and webhooks have an <h4> each, without the level above.",
    ),
    Known(
        "heading-order",
        "#swagger-ui .modal-ux-header h3",
        "So has that dialog: an <h3>.",
    ),
    Known(
        "nested-interactive",
        "#swagger-ui .opblock-summary-control",
        "The button that opens an operation holds a copy of its address that has the focus too.",
    ),
    Known(
        "scrollable-region-focusable",
        "#swagger-ui pre.microlight",
        "A long example scrolls, and cannot be reached by Tab.",
    ),
    Known(
        "landmark-unique",
        "#swagger-ui table.responses-table",
        "Each table of answers is a region without a name.",
    ),
    Known(
        "label",
        "#swagger-ui textarea.body-param__text",
        "The field for a request's body has an empty title and no label.",
    ),
    Known(
        "button-name",
        "#swagger-ui button.close-modal",
        "The cross that closes the dialog is a picture without a text.",
    ),
    Known(
        "label-content-name-mismatch",
        "#swagger-ui .auth-btn-wrapper",
        "Its button Authorize is named Apply credentials for those who do not see it.",
    ),
)
