// A part of the calculator tutorial: POST /divide {"operandOne","operandTwo"} answers the quotient as text.
'use strict';

const http = require('node:http');

http
  .createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    if (request.method !== 'POST' || request.url !== '/divide') {
      response.writeHead(404).end();
      return;
    }
    const { operandOne, operandTwo } = JSON.parse(body);
    response.writeHead(200, { 'Content-Type': 'text/plain' }).end(String(Number(operandOne) / Number(operandTwo)));
  })
  .listen(Number(process.env.APP_PORT ?? 4000), '127.0.0.1');
