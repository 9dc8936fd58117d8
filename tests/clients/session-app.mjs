// An Express instance that counts visits in a session kept by connect-redis. Started by sessions.test.mjs.

import { RedisStore } from 'connect-redis';
import express from 'express';
import session from 'express-session';
import { createClient } from 'redis';

const client = await createClient({ url: process.env.STORE_URL }).connect();
const app = express();
app.use(session({
  store: new RedisStore({ client }),
  secret: 'kept between restarts',
  resave: false,
  saveUninitialized: false,
  cookie: { maxAge: 3_600_000 },
}));
app.get('/count', (request, response) => {
  request.session.count = (request.session.count ?? 0) + 1;
  response.send(String(request.session.count));
});
app.get('/logout', (request, response) => request.session.destroy(() => response.send('bye')));
app.listen(Number(process.env.PORT), '127.0.0.1', (error) => {
  if (error) throw error;
  console.log('listening');
});
process.on('SIGTERM', () => process.exit(0));
