// Uses a cache through @azure/msal-node and Microsoft's own persistence plugin for it.
//
//   msal_node.mjs accounts                     which accounts it sees
//   msal_node.mjs token [--force-refresh]      acquireTokenSilent for the one account, or for --username
//   msal_node.mjs login --user U               device code, approved at once by the test provider
//   msal_node.mjs remove                       removes the one account, or --username
//
// Where the cache is:   --file PATH            a plain file
//                       --cache NAME           as azure-identity for Node opens it: the keyring, else (with --plaintext)
//                                              ~/.IdentityService/NAME. NAME is whole, with .nocae or .cae
// Further:              --client-id ID --tenant T --scope S... --authority URL --claims JSON
//
// Prints one line of JSON: {"ok": true, "accounts": [...], "token", "from_cache", "expires_on", "scopes"}, or
// {"ok": false, "error", "code", "message"} with exit code 3 if interaction is required, 4 if there is not exactly one such
// account, else 1.

import { createRequire } from "node:module";
import { parseArgs } from "node:util";

// The packages are not beside this file, but where scripts/setup puts them.
const require = createRequire(new URL("../../.deps/node/", import.meta.url));
const { InteractionRequiredAuthError, PublicClientApplication } = require("@azure/msal-node");
const { FilePersistence, PersistenceCachePlugin } = require("@azure/msal-node-extensions");

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    authority: { type: "string", default: "https://login.microsoftonline.com" },
    cache: { type: "string" },
    claims: { type: "string" },
    "client-id": { type: "string", default: "04b07795-8ddb-461a-bbee-02f9e1bf7b46" },
    file: { type: "string" },
    "force-refresh": { type: "boolean", default: false },
    plaintext: { type: "boolean", default: false },
    scope: { type: "string", multiple: true, default: ["https://management.core.windows.net//.default"] },
    tenant: { type: "string", default: "organizations" },
    user: { type: "string" },
    username: { type: "string" },
  },
});

class NotOneAccount extends Error {}

function report(answer) {
  console.log(JSON.stringify(answer));
}

async function cachePlugin() {
  if (flags.file) {
    return new PersistenceCachePlugin(await FilePersistence.create(flags.file));
  }
  // The plugin registers itself with azure-identity, which gives it the name and the switch for plain text.
  let provider;
  require("@azure/identity-cache-persistence").cachePersistencePlugin({
    cachePluginControl: { setPersistence: (persistence) => (provider = persistence) },
  });
  return provider({ enabled: true, name: flags.cache, unsafeAllowUnencryptedStorage: flags.plaintext });
}

function summary(account) {
  return { username: account.username, home_account_id: account.homeAccountId, environment: account.environment };
}

function tokenSummary(result) {
  return {
    account: summary(result.account),
    token: result.accessToken,
    from_cache: result.fromCache,
    expires_on: Math.floor(result.expiresOn.getTime() / 1000),
    scopes: result.scopes,
  };
}

async function theAccount(application) {
  const accounts = (await application.getTokenCache().getAllAccounts()).filter(
    (account) => !flags.username || account.username === flags.username,
  );
  const homes = new Set(accounts.map((account) => account.homeAccountId));
  if (homes.size !== 1) {
    throw new NotOneAccount(`${homes.size} accounts: ${accounts.map((account) => account.username).join(", ")}`);
  }
  return accounts[0];
}

async function approve(userCode) {
  const answer = await fetch(`${flags.authority}/_control/approve`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user_code: userCode, user: flags.user }),
  });
  if (!answer.ok) throw new Error(`the test provider answered ${answer.status} to the approval`);
}

const commands = {
  async accounts(application) {
    const accounts = await application.getTokenCache().getAllAccounts();
    return { accounts: accounts.map(summary) };
  },
  async token(application) {
    const account = await theAccount(application);
    const result = await application.acquireTokenSilent({
      account,
      claims: flags.claims,
      forceRefresh: flags["force-refresh"],
      scopes: flags.scope,
    });
    return tokenSummary(result);
  },
  async login(application) {
    // The plugin does not wait for this callback, so a failure has to be carried over by hand.
    let failure;
    const request = { scopes: flags.scope, cancel: false };
    request.deviceCodeCallback = (code) => {
      approve(code.userCode).catch((error) => {
        failure = error;
        request.cancel = true;
      });
    };
    const result = await application.acquireTokenByDeviceCode(request).catch((error) => {
      throw failure ?? error;
    });
    return tokenSummary(result);
  },
  async remove(application) {
    const account = await theAccount(application);
    await application.getTokenCache().removeAccount(account);
    return { removed: summary(account) };
  },
};

const command = commands[positionals[0]];
if (!command || (!flags.file && !flags.cache)) {
  console.error("usage: msal_node.mjs accounts|token|login|remove --file PATH | --cache NAME [--plaintext] [...]");
  process.exit(2);
}
try {
  const application = new PublicClientApplication({
    auth: { clientId: flags["client-id"], authority: `${flags.authority}/${flags.tenant}` },
    cache: { cachePlugin: await cachePlugin() },
  });
  report({ ok: true, ...(await command(application)) });
} catch (error) {
  report({ ok: false, error: error.name, code: error.errorCode, message: error.message });
  process.exitCode = error instanceof InteractionRequiredAuthError ? 3 : error instanceof NotOneAccount ? 4 : 1;
}
