import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// `npm run dev` serves the page itself and hands everything else to a running Thali.
const thali = process.env.THALI_HTTP ?? "http://127.0.0.1:8379";

export default defineConfig({
  base: "./",
  plugins: [svelte()],
  build: { outDir: "dist", emptyOutDir: true, target: "es2022", sourcemap: false },
  server: {
    proxy: {
      "/api": thali,
      "/demo": thali,
      "/socket.io": { target: thali, ws: true },
    },
  },
});
