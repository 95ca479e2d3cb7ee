// An OAuth server, oidc-provider, on loopback. Prints {"url"} when it answers; ends with its standard input, whose first
// line is {"issuer", "clients", "scopes"}: its own address as clients know it, and who they are (RFC 7591).
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Provider } from "oidc-provider";

const input = createInterface({ input: process.stdin });
const settings = JSON.parse(await new Promise((resolve) => input.once("line", resolve)));
input.once("close", () => process.exit());

const provider = new Provider(settings.issuer, {
  clients: settings.clients,
  scopes: settings.scopes,
  routes: { token: "/connect/token" },
  enabledJWA: {
    clientAuthSigningAlgValues: ["PS256", "ES256", "RS256", "RS384", "ES384"],
    dPoPSigningAlgValues: ["PS256", "ES256", "RS256"],
  },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    dPoP: { enabled: true, nonceSecret: Buffer.alloc(32, 7), requireNonce: () => true },
    introspection: { enabled: true },
  },
});
// Clients are told no more than invalid_client.
provider.on("grant.error", (_, error) => console.error(error.error_detail));
const server = createServer(provider.callback());
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}` })));
