// Starts Swagger UI on the page /docs.

// A field of a form starts empty, unless the document has an example for it, and is sent only when it has a value. Swagger
// UI itself invents values, and would ask for the model "string".
const EmptyFields = {
  components: { ParameterIncludeEmpty: () => null },
  afterLoad() {
    const sample = this.fn.getSampleSchema;
    this.fn.getSampleSchema = (schema, mediaType, ...more) => {
      const { type, examples } = schema?.toJS?.() ?? schema ?? {};
      if (mediaType || examples || !type) return sample(schema, mediaType, ...more);
      return type === "array" ? "[]" : "";
    };
  },
};

// Swagger UI warns that a file in a list has no component of its own. It is shown as every other file.
const Files = ({ React }) => ({
  components: {
    JsonSchema_string_binary: (props) => React.createElement(props.getComponent("JsonSchema_string"), props),
  },
});

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  validatorUrl: null, // another host
  defaultModelsExpandDepth: 0,
  plugins: [EmptyFields, Files],
});
