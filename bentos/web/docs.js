// The page at /docs: the OpenAPI document, for people.

const $ = (id) => document.getElementById(id);

function element(tag, text, className) {
  const node = document.createElement(tag);
  if (text) node.append(...worded(text));
  if (className) node.className = className;
  return node;
}

// What stands between backticks is code.
function worded(text) {
  return text.split("`").map((part, index) => {
    if (index % 2 === 0) return part;
    const code = document.createElement("code");
    code.textContent = part;
    return code;
  });
}

function named(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.const) return JSON.stringify(schema.const);
  if (schema.anyOf) return schema.anyOf.map(named).filter((name) => name !== "null").join(" or ");
  if (schema.type === "array") return `${named(schema.items) || schema.prefixItems?.map(named).join(", ")}[]`;
  return schema.format ? `${schema.type} (${schema.format})` : (schema.type ?? "any");
}

function table(head, rows) {
  const node = element("table");
  const titles = node.createTHead().insertRow();
  for (const title of head) titles.append(element("th", title));
  const body = node.createTBody();
  for (const cells of rows) {
    const row = body.insertRow();
    cells.forEach((cell, index) => row.insertCell().append(...(index === 0 ? [element("code", cell)] : worded(cell ?? ""))));
  }
  return node;
}

function asked(operation) {
  const rows = new Map();
  const add = (name, place, schema, told) => {
    const row = rows.get(name);
    if (row) row[1] += `, ${place}`;
    else rows.set(name, [name, place, named(schema), told]);
  };
  for (const { schema } of Object.values(operation.requestBody?.content ?? {})) {
    for (const [name, field] of Object.entries(schema?.properties ?? {})) add(name, "form", field, field.description);
  }
  for (const one of operation.parameters ?? []) {
    add(one.name, one.in, one.schema, one.description ?? one.schema.description);
  }
  return [...rows.values()];
}

function shown(path, method, operation) {
  const node = element("details", "", "operation");
  const summary = node.appendChild(element("summary"));
  summary.append(element("code", `${method.toUpperCase()} ${path}`), ` ${operation.summary}`);
  if (operation.description) node.append(element("p", operation.description));
  const rows = asked(operation);
  if (rows.length) node.append(table(["name", "in", "type", ""], rows));
  const answers = Object.entries(operation.responses).map(([status, answer]) => [
    status, answer.description,
    Object.entries(answer.content ?? {}).map(([kind, { schema }]) => [kind, named(schema)].filter(Boolean).join(": ")).join(", "),
  ]);
  node.append(table(["answer", "", "content"], answers));
  return node;
}

const api = await (await fetch("/openapi.json")).json();
$("version").textContent = `version ${api.info.version}`;
$("description").append(...worded(api.info.description));
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, operation] of Object.entries(methods)) $("operations").append(shown(path, method, operation));
}
for (const [name, schema] of Object.entries(api.components.schemas)) {
  const node = $("schemas").appendChild(element("details", "", "operation"));
  node.append(element("summary", name));
  if (schema.description) node.append(element("p", schema.description));
  const rows = Object.entries(schema.properties ?? {}).map(([key, field]) => [key, named(field), field.description]);
  node.append(table(["field", "type", ""], rows));
  for (const example of schema.examples ?? []) node.append(element("pre", JSON.stringify(example, null, 2)));
}
