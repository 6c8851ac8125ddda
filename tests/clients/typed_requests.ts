// Documented requests with generated types: it compiles only where the types accept them. Prints the answers as JSON.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

const [url, picture] = process.argv.slice(2);
const { GET, POST } = createClient<paths>({ baseUrl: url });
const file = await (await fetch(`data:image/png;base64,${picture}`)).blob();

/** A form: a list becomes a field per item. */
function form(body: object): FormData {
  const fields = Object.entries(body).flatMap(([name, value]) => [value].flat().map((item) => [name, item] as const));
  const data = new FormData();
  fields.forEach(([name, value]) => data.append(name, value instanceof Blob ? value : String(value)));
  return data;
}

async function answer<T>(call: Promise<{ data?: T; error?: unknown }>): Promise<T> {
  const { data, error } = await call;
  if (data === undefined) throw new Error(JSON.stringify(error));
  return data;
}

function embed(body: components["schemas"]["EmbeddingsRequest"]) {
  return answer(POST("/v1/embeddings", { body }));
}

const image = `data:image/png;base64,${picture}`;
const labels = ["pizza", "rocket"];
const { data: models } = await answer(GET("/v1/models"));
const { id: model, space_id: space } = models[0]!;

console.log(
  JSON.stringify({
    text: await embed({ input: "pizza" }),
    mixed: await embed({ input: ["pizza", image, { text: "pizza" }, { image }, { text: "pizza", image }] }),
    parts: await embed({
      input: [
        { type: "text", text: "pizza" },
        { type: "image_url", image_url: { url: image } },
        { content: [{ type: "text", text: "pizza" }, { type: "image_base64", image_base64: picture! }] },
      ],
    }),
    messages: await embed({ messages: [{ role: "user", content: [{ type: "image_url", image_url: image }] }] }),
    encodings: await embed({ input: "pizza", encoding_format: ["float", "ubinary"] }),
    everyField: await embed({
      input: ["pizza"],
      model,
      encoding_format: "base64",
      dimensions: 64,
      user: "somebody",
      modality: "text",
      on_error: "null",
      expect_space: space,
    }),
    nulls: await embed({ input: "pizza", model: null, encoding_format: null, dimensions: null, modality: null }),
    expected: await answer(
      POST("/v1/embeddings", { body: { input: "pizza" }, params: { header: { "X-Embedding-Space": space } } }),
    ),
    unexpected: (await POST("/v1/embeddings", { body: { input: "pizza", expect_space: "other" } })).error?.error,
    files: await answer(
      POST("/v1/embeddings/image", { body: { file: [file, file], input: ["pizza"] }, bodySerializer: form }),
    ),
    ranked: await answer(POST("/v1/rank", { body: { query: image, candidates: labels, top_n: 1 } })),
    classified: await answer(POST("/v1/classify", { body: { image, labels, multi_label: false } })),
    classifiedFile: await answer(POST("/v1/classify/image", { body: { file, labels }, bodySerializer: form })),
    evaluated: await answer(POST("/evaluator/v1/evaluation/single", { body: { image, text: "pizza" } })),
    clipScore: await answer(
      POST("/evaluator/v1/evaluation/single", { body: { image_input: image, text_prompt: "pizza" } }),
    ),
    batch: await answer(POST("/evaluator/v1/evaluation/batch", { body: { items: [{ image, text: "pizza" }] } })),
    prompts: await answer(POST("/embedding", { body: { content: ["pizza"] } })),
    reranked: await answer(POST("/v1/rerank", { body: { query: "pizza", documents: labels } })),
    model: await answer(GET("/v1/models/{name}", { params: { path: { name: model } } })),
    health: await answer(GET("/health")),
  }),
);
