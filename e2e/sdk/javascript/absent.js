// Row SD-21: a client whose sidecar is not there.
'use strict';

const { DaprClient, HttpMethod } = require('@dapr/dapr');
const { row, fails } = require('./rows.js');

async function main() {
  await row('SD-21', async () => {
    const client = new DaprClient({ daprHost: '127.0.0.1', daprPort: process.env.DAPR_HTTP_PORT });
    const begun = Date.now();
    const error = await fails(() => client.invoker.invoke('jsapp', 'x', HttpMethod.GET));
    const seconds = (Date.now() - begun) / 1000;
    if (!error.message.includes('DAPR_SIDECAR_COULD_NOT_BE_STARTED')) throw error;
    if (seconds < 25 || seconds > 40) throw new Error(`after ${seconds} s`);
  });
  process.exit(0);
}

main();
