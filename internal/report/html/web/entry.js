// What the pages use of Observable Plot, and nothing else of it.
export {plot, axisX, axisY, barX, cell, dot, gridX, gridY, line, pointerX, ruleX, ruleY, text, tip} from "@observablehq/plot";
