// The order app of the hello-world tutorial: keeps orders in memory, or in a state store if STATE_STORE names one.
'use strict';

const http = require('node:http');

const port = Number(process.env.APP_PORT ?? 3000);
const sidecar = `http://localhost:${process.env.DAPR_HTTP_PORT ?? 3500}`;
const store = process.env.STATE_STORE;
let last = null;

async function save(order) {
  if (!store) {
    last = order;
    return true;
  }
  const state = JSON.stringify([{ key: 'order', value: order }]);
  const headers = { 'Content-Type': 'application/json' };
  const reply = await fetch(`${sidecar}/v1.0/state/${store}`, { method: 'POST', body: state, headers });
  if (!reply.ok) console.log('Failed to persist state:', reply.status, await reply.text());
  return reply.ok;
}

async function load() {
  if (!store) return last;
  const reply = await fetch(`${sidecar}/v1.0/state/${store}/order`);
  return reply.ok ? reply.json() : null;
}

const routes = {
  'GET /order': async () => {
    const order = await load();
    return order ? [200, order] : [500, { message: 'Failed to get order.' }];
  },
  'POST /neworder': async (body) => {
    const order = JSON.parse(body).data;
    console.log(`Got a new order! Order ID: ${order.orderId}`);
    return (await save(order)) ? [200] : [500, { message: 'Failed to persist state.' }];
  },
  'GET /ports': async () => [200, { DAPR_HTTP_PORT: process.env.DAPR_HTTP_PORT, DAPR_GRPC_PORT: process.env.DAPR_GRPC_PORT }],
};

http
  .createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const route = routes[`${request.method} ${request.url.split('?')[0]}`];
    try {
      const [status, answer] = route ? await route(body) : [404, { message: 'no such route' }];
      response.writeHead(status, { 'Content-Type': 'application/json' });
      response.end(answer === undefined ? '' : JSON.stringify(answer));
    } catch (error) {
      response.writeHead(400, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify({ message: String(error) }));
    }
  })
  .listen(port, () => console.log(`Node App listening on port ${port}!`));
