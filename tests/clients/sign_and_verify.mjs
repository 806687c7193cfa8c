// One JSON request a line in, one JSON answer a line out: {client, secret, id, at, body} is signed, {client, secret, headers,
// body} is verified. Run by tests/support/clients.py with NODE_CLIENTS naming the folder whose node_modules hold the packages.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(`${process.env.NODE_CLIENTS}/package.json`);
const Webhook = { standardwebhooks: require("standardwebhooks").Webhook, svix: require("svix").Webhook };

function answer({ client, secret, id, at, body, headers }) {
  const webhook = new Webhook[client](secret);
  if (headers === undefined) return { signature: webhook.sign(id, new Date(at * 1000), body) };
  try {
    webhook.verify(body, headers);
    return { verified: true };
  } catch (error) {
    return { verified: false, why: String(error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(answer(JSON.parse(line)))}\n`);
}
