// The Greeter of the proxy how-to for Node: listens on APP_PORT (50051) and greets; knows nothing of Dapr.
// A few names steer it: `slow` waits until the caller gives up, `fail` ends with a status that has details.
'use strict';

const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const definition = loader.loadSync(path.join(__dirname, '..', 'greeter.proto'), { keepCase: true });
const { Greeter } = grpc.loadPackageDefinition(definition).helloworld;

// google.rpc.Status { code: 9, message: "cannot greet", details: [ErrorInfo { NOT_TODAY, greeter }] }
function richStatus() {
  const field = (number, bytes) => Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
  const info = Buffer.concat([field(1, Buffer.from('NOT_TODAY')), field(2, Buffer.from('greeter'))]);
  const any = Buffer.concat([
    field(1, Buffer.from('type.googleapis.com/google.rpc.ErrorInfo')),
    field(2, info),
  ]);
  return Buffer.concat([Buffer.from([8, 9]), field(2, Buffer.from('cannot greet')), field(3, any)]);
}

function sayHello(call, done) {
  const name = call.request.name;
  console.log('Received:', name.slice(0, 40));
  const header = new grpc.Metadata();
  header.set('seen-caller', String(call.metadata.get('dapr-caller-app-id')[0] ?? ''));
  header.set('seen-text', String(call.metadata.get('x-text')[0] ?? ''));
  call.sendMetadata(header);
  const trailer = new grpc.Metadata();
  trailer.set('seen-bytes-bin', call.metadata.get('x-bytes-bin')[0] ?? Buffer.alloc(0));
  if (name === 'slow') {
    call.on('cancelled', () => console.log('Cancelled:', name));
    return;
  }
  if (name === 'fail') {
    const metadata = new grpc.Metadata();
    metadata.set('grpc-status-details-bin', richStatus());
    done({ code: grpc.status.FAILED_PRECONDITION, details: 'cannot greet', metadata });
    return;
  }
  done(null, { message: `Hello ${name}` }, trailer);
}

function replyToAll(call, done) {
  const names = [];
  call.on('data', (request) => names.push(request.name));
  call.on('end', () => done(null, { message: `Hello ${names.join(', ')}` }));
}

function replyOften(call) {
  for (let number = 0; number < 3; number += 1) {
    call.write({ message: `Hello ${call.request.name} ${number}` });
  }
  call.end();
}

function chat(call) {
  call.on('data', (request) => call.write({ message: `Hello ${request.name}` }));
  call.on('end', () => call.end());
}

const server = new grpc.Server({ 'grpc.max_receive_message_length': -1 });
server.addService(Greeter.service, {
  SayHello: sayHello,
  ReplyToAll: replyToAll,
  ReplyOften: replyOften,
  Chat: chat,
});
const port = process.env.APP_PORT ?? '50051';
server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  console.log('Listening on', port);
});
