// The callee of the invocation quickstart: receives orders.
'use strict';

const express = require('express');

const app = express();
app.use(express.json());
app.post('/orders', (request, response) => {
  console.log('Order received:', request.body);
  response.sendStatus(200);
});
app.listen(Number(process.env.APP_PORT ?? 5001), () => console.log('listening'));
