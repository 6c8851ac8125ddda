// Types of the server's API, by openapi-typescript: `node generate_types.mjs URL` prints them.
import openapiTS, { astToString } from "openapi-typescript";
import ts from "typescript";

const FILE = ts.factory.createTypeReferenceNode("Blob");
// A file of a form is a Blob, as openapi-typescript's documentation does it.
const transform = (schema) => (schema.format === "binary" ? FILE : undefined);

console.log(astToString(await openapiTS(new URL(process.argv[2]), { transform })));
