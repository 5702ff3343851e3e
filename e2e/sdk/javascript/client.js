// Rows SD-20, SD-22 to SD-29: the JavaScript client against real sidecars.
// The environment names the sidecar; the apps are jsapp, jsserver and jsgrpc.
'use strict';

const { CommunicationProtocolEnum, DaprClient, HttpMethod } = require('@dapr/dapr');
const { row, same, fails } = require('./rows.js');

const http = new DaprClient({ daprHost: '127.0.0.1', daprPort: process.env.DAPR_HTTP_PORT });
const grpc = new DaprClient({
  daprHost: '127.0.0.1',
  daprPort: process.env.DAPR_GRPC_PORT,
  communicationProtocol: CommunicationProtocolEnum.GRPC,
});

async function main() {
  await row('SD-20', async () => {
    const seen = await http.invoker.invoke('jsapp', 'first', HttpMethod.GET);
    same('method', 'GET', seen.method);
  });
  await row('SD-22', async () => {
    for (const [body, type, text] of [
      [{ a: 1 }, 'application/json', '{"a":1}'],
      ['text', 'text/plain', 'text'],
      [Buffer.from('bytes'), 'application/octet-stream', 'bytes'],
    ]) {
      const seen = await http.invoker.invoke('jsapp', 'seen', HttpMethod.POST, body);
      same('body', text, seen.body);
      if (!(seen.headers['content-type'] ?? '').startsWith(type)) throw new Error(seen.headers['content-type']);
    }
    const got = await http.invoker.invoke('jsapp', 'seen', HttpMethod.GET);
    same('type of GET', undefined, got.headers['content-type']);
  });
  await row('SD-23', async () => {
    const error = JSON.parse((await fails(() => http.invoker.invoke('jsapp', 'gone', HttpMethod.GET))).message);
    same('status', 404, error.status);
    same('text', 'no such thing', error.error_msg);
  });
  await row('SD-24', async () => {
    const options = { headers: { 'x-mine': 'yes' } };
    const text = await http.invoker.invoke('jsserver', 'm', HttpMethod.POST, { data: 'x'.repeat(5 << 20) }, options);
    const answer = typeof text === 'string' ? JSON.parse(text) : text;
    if (answer.length < 5 << 20) throw new Error(`length ${answer.length}`);
    same('header', 'yes', answer.mine);
    const got = await http.invoker.invoke('jsserver', 'g', HttpMethod.GET);
    same('GET', true, (typeof got === 'string' ? JSON.parse(got) : got).got);
  });
  await row('SD-25', async () => {
    const posted = await http.invoker.invoke('jsgrpc', 'm', HttpMethod.POST, { data: 1 });
    if (!JSON.stringify(posted).includes('length')) throw new Error(JSON.stringify(posted));
    const got = await http.invoker.invoke('jsgrpc', 'm', HttpMethod.GET);
    same('no handler for GET', '', got ?? '');
  });
  await row('SD-26', async () => {
    same('id', 'caller', (await grpc.metadata.get()).id);
    const seen = await grpc.invoker.invoke('jsapp', 'seen', HttpMethod.POST, { a: 1 });
    same('body', '{"a":1}', seen.body);
  });
  await row('SD-27', async () => {
    const error = await fails(() => grpc.invoker.invoke('jsapp', 'gone', HttpMethod.GET));
    same('code', 5, error.code);
    if (/missing status/.test(error.message)) throw new Error(error.message);
  });
  await row('SD-28', async () => {
    same('text', 'plain text', await http.invoker.invoke('jsapp', 'zipped', HttpMethod.GET));
  });
  await row('SD-29', async () => {
    same('text', 'landed', await http.invoker.invoke('jsapp', 'moved', HttpMethod.GET));
  });
  await http.stop();
  await grpc.stop();
  process.exit(0);
}

main();
