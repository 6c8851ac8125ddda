// The npm openai client: prints the embeddings of the inputs given as JSON on the command line.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "none", maxRetries: 0 });
const options = JSON.parse(process.argv[2]);
try {
  const answer = await client.embeddings.create(options);
  console.log(JSON.stringify(answer.data.map((item) => Array.from(item.embedding))));
} catch (error) {
  console.log(JSON.stringify({ status: error.status, message: error.message, param: error.param }));
}
