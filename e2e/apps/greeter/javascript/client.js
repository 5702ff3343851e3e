// The client of the proxy how-to for Node: greets `server` through its own sidecar's gRPC port.
'use strict';

const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const definition = loader.loadSync(path.join(__dirname, '..', 'greeter.proto'), { keepCase: true });
const { Greeter } = grpc.loadPackageDefinition(definition).helloworld;

const address = `localhost:${process.env.DAPR_GRPC_PORT ?? '50007'}`;
const client = new Greeter(address, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
metadata.set('dapr-app-id', process.env.GREETER_APP_ID ?? 'server');
client.SayHello({ name: 'Darth Tyrannus' }, metadata, { deadline: Date.now() + 2000 }, (error, reply) => {
  if (error) throw error;
  console.log('Greeting:', reply.message);
  client.close();
});
