// OpenAI's JavaScript client against a gateway.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const found = createRequire(`${process.env.CLIENTS_FOLDER}/`).resolve("openai");
const { OpenAI, toFile } = await import(pathToFileURL(found));

const model = process.env.GATEWAY_MODEL;
const to = { baseURL: `${process.env.GATEWAY_URL}/v1`, apiKey: process.env.GATEWAY_KEY, maxRetries: 0 };
const client = new OpenAI(to);
const messages = [{ role: "user", content: "Who was it?" }];
const long = { model, messages, max_tokens: 4000, ignore_eos: true };
const schema = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer", minimum: 18 } },
  required: ["name", "age"],
  additionalProperties: false,
};

const checks = {
  async models() {
    const listed = [];
    for await (const each of client.models.list()) listed.push(each.id);
    assert.deepEqual(listed, [model]);
  },
  async chat() {
    const answer = await client.chat.completions.create({ model, messages, max_tokens: 6 });
    assert.ok(answer.choices[0].message.content);
    assert.equal(answer.usage.completion_tokens, 6);
  },
  async stream() {
    const whole = await client.chat.completions.create({ model, messages, max_tokens: 6 });
    const options = { model, messages, max_tokens: 6, stream: true, stream_options: { include_usage: true } };
    let text = "";
    let last;
    for await (const chunk of await client.chat.completions.create(options)) {
      text += chunk.choices[0]?.delta?.content ?? "";
      last = chunk;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(last.usage.completion_tokens, 6);
  },
  async tools() {
    const tools = [{ type: "function", function: { name: "person", parameters: schema } }];
    const tool_choice = { type: "function", function: { name: "person" } };
    const answer = await client.chat.completions.create({ model, messages, tools, tool_choice });
    const [call] = answer.choices[0].message.tool_calls;
    assert.ok(JSON.parse(call.function.arguments).age >= 18);
    const streamed = client.chat.completions.stream({ model, messages, tools, tool_choice });
    const final = await streamed.finalChatCompletion();
    assert.equal(final.choices[0].message.tool_calls[0].function.arguments, call.function.arguments);
  },
  async json_schema() {
    const response_format = { type: "json_schema", json_schema: { name: "person", schema, strict: true } };
    const answer = await client.chat.completions.create({ model, messages, response_format });
    assert.ok(JSON.parse(answer.choices[0].message.content).age >= 18);
  },
  async embeddings() {
    const answer = await client.embeddings.create({ model, input: ["a", "b"] });
    assert.equal(answer.data.length, 2);
    assert.ok(Math.abs(answer.data[0].embedding[0]) <= 1);
  },
  async responses() {
    const first = await client.responses.create({ model, input: "hello", max_output_tokens: 6 });
    assert.ok(first.output_text);
    const again = await client.responses.retrieve(first.id);
    assert.equal(again.output_text, first.output_text);
    const next = await client.responses.create({ model, input: "and?", previous_response_id: first.id });
    assert.ok(next.output_text);
    const kinds = [];
    const options = { model, input: "hello", max_output_tokens: 6, stream: true };
    for await (const event of await client.responses.create(options)) kinds.push(event.type);
    assert.equal(kinds.at(0), "response.created");
    assert.equal(kinds.at(-1), "response.completed");
  },
  async audio() {
    const file = await toFile(Buffer.alloc(64000), "a.wav");
    assert.ok((await client.audio.transcriptions.create({ model, file })).text);
  },
  async errors() {
    const wrong = new OpenAI({ ...to, apiKey: "wrong" });
    await assert.rejects(wrong.models.list(), OpenAI.AuthenticationError);
    const absent = client.chat.completions.create({ model: "absent", messages });
    await assert.rejects(absent, (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError);
      assert.equal(error.code, "model_not_found");
      assert.ok(error.requestID);
      return true;
    });
    const tooLong = client.chat.completions.create({ model, messages, max_tokens: 10_000_000 });
    await assert.rejects(tooLong, OpenAI.BadRequestError);
  },
  async time_out() {
    const asked = client.chat.completions.create(long, { timeout: 300 });
    await assert.rejects(asked, OpenAI.APIConnectionTimeoutError);
  },
  async cancel() {
    const stream = await client.chat.completions.create({ ...long, stream: true });
    for await (const _ of stream) break;
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 200);
    const asked = client.chat.completions.create(long, { signal: controller.signal });
    await assert.rejects(asked, OpenAI.APIUserAbortError);
  },
};

for (const [check, run] of Object.entries(checks)) {
  let problem = null;
  try {
    await run();
  } catch (error) {
    problem = String(error?.stack ?? error);
  }
  console.log(JSON.stringify({ check, problem }));
}
