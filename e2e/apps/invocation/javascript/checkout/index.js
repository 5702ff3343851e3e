// The caller of the invocation quickstart: an order a second, by header, through its own sidecar.
'use strict';

const axios = require('axios');

const base = `${process.env.DAPR_HOST ?? 'http://localhost'}:${process.env.DAPR_HTTP_PORT ?? '3500'}`;
const config = { headers: { 'dapr-app-id': 'order-processor' } };
const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

async function main() {
  for (let number = 1; number <= 20; number += 1) {
    const order = { orderId: number };
    try {
      const reply = await axios.post(`${base}/orders`, order, config);
      console.log('Order passed:', reply.config.data);
    } catch (error) {
      console.log('Order failed:', error.message);
    }
    await pause(1000);
  }
}

main();
