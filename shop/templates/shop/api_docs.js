"use strict";
{% comment %}
Starts Swagger UI so that "Try it out" succeeds: each request with an Idempotency-Key gets a new key,
and an answer fills the parameters of the operations that the schema links to it.
{% endcomment %}
const KEY = "Idempotency-Key";
const METHODS = ["get", "post", "put", "patch", "delete"];

const operations = () =>
  Object.entries(ui.specSelectors.specJson().get("paths").toJS()).flatMap(([path, methods]) =>
    METHODS.filter((method) => methods[method]).map((method) => ({ path, method, ...methods[method] })),
  );

const fill = ({ path, method }, name, place, value) =>
  ui.specActions.changeParam([path, method], name, place, value);

{# crypto.randomUUID needs HTTPS or loopback. #}
const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

const fillKey = (operation) => {
  if ((operation.parameters || []).some(({ name }) => name === KEY)) {
    fill(operation, KEY, "header", newKey());
  }
};

{# Return whether a request's address is that of an operation: "/api/orders/{id}/". #}
const fits = (operation, request) =>
  operation.method === (request.method || "GET").toLowerCase() &&
  new RegExp(`^${operation.path.replace(/\{[^}]+\}/g, "[^/]+")}$`).test(new URL(request.url).pathname);

{# Evaluate a link's expression, "$response.body#/results/0/id", against an answer. #}
const evaluate = (expression, body) =>
  expression
    .replace("$response.body#/", "")
    .split("/")
    .reduce((part, name) => (part === undefined || part === null ? undefined : part[name]), body);

const fillLinked = (operation, status, body) => {
  const links = ((operation.responses || {})[status] || {}).links || {};
  for (const { operationId, parameters = {} } of Object.values(links)) {
    const target = operations().find((one) => one.operationId === operationId);
    for (const [name, expression] of Object.entries(parameters)) {
      const value = expression.startsWith("$response.body#/") ? evaluate(expression, body) : undefined;
      if (target && typeof value === "string") fill(target, name, "path", value);
    }
  }
};

const afterAnswer = (response, request) => {
  const operation = operations().find((one) => fits(one, request));
  if (!operation) return;
  fillKey(operation);
  if (response.ok) fillLinked(operation, String(response.status), response.body || response.obj);
};

let lastRequest = null;

const ui = SwaggerUIBundle({
  url: "{{ schema_url|escapejs }}",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  onComplete: () => operations().forEach(fillKey),
  requestInterceptor: (request) => {
    if (!request.loadSpec) lastRequest = request;
    if (!["GET", undefined].includes(request.method) && request.credentials === "same-origin") {
      request.headers["{{ csrf_header_name }}"] = "{{ csrf_token }}";
    }
    return request;
  },
  responseInterceptor: (response) => {
    const request = lastRequest;
    if (request && response.url && response.url.split("?")[0] === new URL(request.url, document.baseURI).href.split("?")[0]) {
      lastRequest = null;
      setTimeout(() => afterAnswer(response, request));
    }
    return response;
  },
});
