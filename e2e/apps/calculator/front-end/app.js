// The front end of the calculator tutorial: POST /calculate/<operation> invokes the app of that operation.
'use strict';

const http = require('node:http');

const base = `http://localhost:${process.env.DAPR_HTTP_PORT ?? 3500}/v1.0/invoke`;
const apps = { divide: 'divideapp', multiply: 'multiplyapp' };

http
  .createServer(async (request, response) => {
    const operation = request.url.split('/').pop();
    let body = '';
    for await (const chunk of request) body += chunk;
    if (!apps[operation]) {
      response.writeHead(404).end();
      return;
    }
    const headers = { 'Content-Type': 'application/json' };
    const reply = await fetch(`${base}/${apps[operation]}/method/${operation}`, { method: 'POST', body, headers });
    response.writeHead(reply.status, { 'Content-Type': 'text/plain' }).end((await reply.text()).trim());
  })
  .listen(Number(process.env.APP_PORT ?? 8080), '127.0.0.1');
