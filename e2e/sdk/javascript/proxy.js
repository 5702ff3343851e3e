// Rows GP-01 to GP-07 with grpc-js: the Greeter through the sidecar's gRPC port.
// DAPR_GRPC_PORT names the sidecar; the app id is `greeter`.
'use strict';

const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const { row, same, fails } = require('./rows.js');

const proto = path.join(__dirname, '..', '..', 'apps', 'greeter', 'greeter.proto');
const { Greeter } = grpc.loadPackageDefinition(loader.loadSync(proto, { keepCase: true })).helloworld;
const client = new Greeter(`localhost:${process.env.DAPR_GRPC_PORT}`, grpc.credentials.createInsecure());

function to(extra = {}) {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries({ 'dapr-app-id': 'greeter', ...extra })) metadata.set(name, value);
  return metadata;
}

const soon = (milliseconds = 30000) => ({ deadline: Date.now() + milliseconds });

function unary(name, metadata = to(), options = soon()) {
  return new Promise((resolve, reject) => {
    const seen = {};
    const call = client.SayHello({ name }, metadata, options, (error, reply) => {
      if (error) reject(error);
      else setImmediate(() => resolve({ reply, ...seen }));
    });
    call.on('metadata', (header) => { seen.header = header; });
    call.on('status', (status) => { seen.trailer = status.metadata; });
  });
}

function collect(stream) {
  return new Promise((resolve, reject) => {
    const replies = [];
    stream.on('data', (reply) => replies.push(reply.message));
    stream.on('error', reject);
    stream.on('end', () => resolve(replies));
  });
}

async function streams(extra) {
  const joined = await new Promise((resolve, reject) => {
    const call = client.ReplyToAll(to(extra), soon(), (error, reply) => (error ? reject(error) : resolve(reply.message)));
    call.write({ name: 'a' });
    call.write({ name: 'b' });
    call.end();
  });
  same('client stream', 'Hello a, b', joined);
  same('server stream', ['Hello c 0', 'Hello c 1', 'Hello c 2'], await collect(client.ReplyOften({ name: 'c' }, to(extra), soon())));
  const chat = client.Chat(to(extra), soon());
  const replies = collect(chat);
  chat.write({ name: 'd' });
  chat.write({ name: 'e' });
  chat.end();
  same('both', ['Hello d', 'Hello e'], await replies);
}

async function main() {
  const kind = process.env.KIND ?? 'grpc-js';
  await row(`GP-01 ${kind}`, async () => {
    const bytes = Buffer.from([0, 1, 2, 250]);
    const { reply, header, trailer } = await unary('you', to({ 'x-text': 'text', 'x-bytes-bin': bytes }));
    same('reply', 'Hello you', reply.message);
    same('caller', process.env.CALLER ?? 'caller', header.get('seen-caller')[0]);
    same('text', 'text', header.get('seen-text')[0]);
    same('bytes', [...bytes], [...trailer.get('seen-bytes-bin')[0]]);
  });
  await row(`GP-04 ${kind}`, async () => {
    await streams({});
    await streams({ 'dapr-stream': 'true' });
  });
  await row(`GP-05 ${kind} deadline`, async () => {
    const error = await fails(() => unary('slow', to(), soon(100)));
    same('code', grpc.status.DEADLINE_EXCEEDED, error.code);
  });
  await row(`GP-05 ${kind} cancel`, async () => {
    const code = await new Promise((resolve) => {
      const call = client.SayHello({ name: 'slow' }, to(), (error) => resolve(error.code));
      setTimeout(() => call.cancel(), 200);
    });
    same('code', grpc.status.CANCELLED, code);
  });
  await row(`GP-06 ${kind}`, async () => {
    const error = await fails(() => unary('fail'));
    same('code', grpc.status.FAILED_PRECONDITION, error.code);
    same('message', 'cannot greet', error.details);
    const details = error.metadata.get('grpc-status-details-bin')[0].toString('latin1');
    if (!details.includes('NOT_TODAY') || !details.includes('google.rpc.ErrorInfo')) throw new Error(details);
  });
  await row(`GP-07 ${kind}`, async () => {
    const error = await fails(() => unary('you', new grpc.Metadata()));
    same('code', grpc.status.UNKNOWN, error.code);
    same('text', 'cannot proxy request: missing dapr-callee-app-id or dapr-app-id metadata', error.details);
  });
  await row(`GP-01 ${kind} message above the limit`, async () => {
    const error = await fails(() => unary('x'.repeat(5 << 20)));
    same('code', grpc.status.RESOURCE_EXHAUSTED, error.code);
  });
  await row(`GP-01 ${kind} 1000 calls on one connection`, async () => {
    const names = Array.from({ length: 1000 }, (_, number) => `${number}`);
    const all = await Promise.all(names.map((name) => unary(name, to(), soon(30000))));
    same('replies', names.map((name) => `Hello ${name}`), all.map(({ reply }) => reply.message));
  });
  client.close();
}

main();
