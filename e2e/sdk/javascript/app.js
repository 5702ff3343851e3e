// A plain HTTP app for the rows of the JavaScript client: tells what it saw.
'use strict';

const http = require('node:http');
const zlib = require('node:zlib');

const routes = {
  '/gone': (request, response) => response.writeHead(404, { 'Content-Type': 'text/plain' }).end('no such thing'),
  '/zipped': (request, response) => {
    const wanted = (request.headers['accept-encoding'] ?? '').includes('gzip');
    const headers = { 'Content-Type': 'text/plain', ...(wanted ? { 'Content-Encoding': 'gzip' } : {}) };
    response.writeHead(200, headers).end(wanted ? zlib.gzipSync('plain text') : 'plain text');
  },
  '/moved': (request, response) => response.writeHead(302, { Location: '/v1.0/invoke/jsapp/method/landed' }).end(),
  '/landed': (request, response) => response.writeHead(200, { 'Content-Type': 'text/plain' }).end('landed'),
};

http
  .createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const route = routes[request.url];
      if (route) {
        route(request, response);
        return;
      }
      const seen = { method: request.method, url: request.url, headers: request.headers, body: Buffer.concat(chunks).toString() };
      response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(seen));
    });
  })
  .listen(Number(process.env.APP_PORT), '127.0.0.1');
