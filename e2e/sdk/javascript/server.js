// A DaprServer for the rows SD-24 and SD-25; PROTOCOL is http or grpc.
'use strict';

const { CommunicationProtocolEnum, DaprServer, HttpMethod } = require('@dapr/dapr');

const grpc = process.env.PROTOCOL === 'grpc';

async function main() {
  const server = new DaprServer({
    serverHost: '127.0.0.1',
    serverPort: process.env.APP_PORT,
    communicationProtocol: grpc ? CommunicationProtocolEnum.GRPC : CommunicationProtocolEnum.HTTP,
    maxBodySizeMb: 8,
    clientOptions: {
      daprHost: '127.0.0.1',
      daprPort: grpc ? process.env.DAPR_GRPC_PORT : process.env.DAPR_HTTP_PORT,
    },
  });
  const answer = async (data) => ({ length: (data.body ?? '').length, mine: data.headers?.['x-mine'] ?? null });
  await server.invoker.listen('m', answer, { method: HttpMethod.POST });
  await server.invoker.listen('g', async () => ({ got: true }), { method: HttpMethod.GET });
  await server.start();
  console.log('serving');
}

main();
